"""What the paper's method is compared with, one file per method."""
