"""Pages that people look at: one self-contained HTML file each, with charts and pictures in it."""
