"""Layers of teacher and student: pairs, projectors, weights taken over."""
