"""What is measured of predictions, and what of it is kept for tables and figures."""
