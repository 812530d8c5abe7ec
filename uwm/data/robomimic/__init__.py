"""Robot demonstrations in robomimic's HDF5 layout."""
