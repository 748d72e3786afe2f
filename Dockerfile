# Four images from one file; choose with --target. The build context is this directory.
#   docker build --target runtime     -t edgebone .           CPU: onnxruntime and OpenVINO
#   docker build --target runtime-gpu -t edgebone:gpu .       NVIDIA GPU: onnxruntime with CUDA
#   docker build --target jetson      -t edgebone:jetson .    Jetson, JetPack 6
#   docker build --target export      -t edgebone:export .    workstation: PyTorch to bundle
# Run: docker run --rm -v "$PWD:/data" edgebone run mobilenet_v2.bundle photo.jpg
# Metrics, from inside a container: -p 127.0.0.1:9477:9477 before the image's name, --metrics 0.0.0.0:9477 behind it.

FROM python:3.11-slim-bookworm AS runtime
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# OpenCV's wheel links against these two system libraries.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python -m pip install --no-cache-dir "/src[cpu,openvino,video,vision,metrics]" && rm -rf /src
RUN useradd --uid 1000 --create-home edgebone
USER 1000
WORKDIR /data
ENTRYPOINT ["edgebone"]
CMD ["--help"]

FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu22.04 AS runtime-gpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m pip install --no-cache-dir "/src[gpu,video,vision,metrics]" && rm -rf /src
RUN useradd --uid 1000 --create-home edgebone
USER 1000
WORKDIR /data
ENTRYPOINT ["edgebone"]
CMD ["--help"]

# JetPack 6's own base, with its CUDA and Python 3.10. The package index has no GPU build of onnxruntime for
# aarch64, so that this image runs on the Jetson's CPU.
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0 AS jetson
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-pip libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m pip install --no-cache-dir "/src[cpu,video,vision,metrics]" && rm -rf /src
RUN useradd --uid 1000 --create-home --groups video edgebone
USER 1000
WORKDIR /data
ENTRYPOINT ["edgebone"]
CMD ["--help"]

FROM runtime AS export
USER 0
COPY . /src
RUN python -m pip install --no-cache-dir "/src[export,timm,quantize]" && rm -rf /src
USER 1000
