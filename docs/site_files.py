"""For mkdocs: every page has the path of its file in the project, so that links mean the same in both."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
SHOWN = (
    "*.md",
    "docs/**/*.md",
    "docs/extending/**/*.*",
    "examples/**/*.*",
    "benchmarks/README.md",
    "benchmarks/results/*.*",
    "Dockerfile",
    "Makefile",
    "tests/*.py",
    "tests/test_rooms.py",
    "LICENSE",
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put what is shown of the project in the place of the files of ``docs_dir`` alone; themes' files stay."""
    kept = [file for file in files if file.src_dir != config.docs_dir]
    paths = sorted({path for pattern in SHOWN for path in ROOT.glob(pattern) if path.is_file()})
    shown = [
        File(path.relative_to(ROOT).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)
        for path in paths
        if "__pycache__" not in path.parts
    ]
    return Files([*kept, *shown])
