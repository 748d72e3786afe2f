"""Graph passes, each checked: what it requires, what it does, what it ensures.

The contract follows onnx-ir's passes. The graph's outputs are compared with PyTorch's after every pass, so that an
error names the pass that broke the network.
"""
