"""Planning with a robot's own actions: what section 6 of the paper leaves to do."""
