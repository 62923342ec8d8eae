"""Query rows: made up rows that the teacher labels."""
