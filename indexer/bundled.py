"""Where the files that come with the package are: labels, ontology, the demo checkpoint."""

from __future__ import annotations

from pathlib import Path


def bundled_path(relative: str) -> Path:
    """Return the path of a file that comes with the package.

    Args:
        relative: Path below the top level of the source tree, such as "metadata/SOURCES.md".

    Returns:
        The file inside the installed package, or beside it in a source checkout; it may not exist.
    """
    package = Path(__file__).parent
    installed = package / "_bundled" / relative
    return installed if installed.exists() else package.parent / relative
