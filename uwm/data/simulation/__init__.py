"""Everything that needs robosuite: scenes, policies, rendering of the corpora."""
