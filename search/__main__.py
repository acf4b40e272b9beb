"""Lets `python -m search` stand for the `soundalike` command."""

from search.cli import main

main()
