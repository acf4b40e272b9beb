"""Where each window lies on a map of its library: like by like, and the regions have names."""
