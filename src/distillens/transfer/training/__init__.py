"""The loss of a student beside its teacher, and the loop that minimises it."""
