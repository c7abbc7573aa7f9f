"""Questions asked of a target: which attribute makes it fail, by how much, and against which control."""
