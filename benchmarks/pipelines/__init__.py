"""Where the seconds of a whole job go, and how busy it keeps its workers."""
