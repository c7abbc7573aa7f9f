"""The studio renders labelled synthetic faces from a morphable mesh: the ground truth."""
