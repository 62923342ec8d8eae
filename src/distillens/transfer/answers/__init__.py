"""The teacher's answers: asked once, kept on disk, found again."""
