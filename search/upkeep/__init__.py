"""Building, checking and tidying what queries see."""
