"""Figures that can be put beside published ones, each with the name of its definition."""
