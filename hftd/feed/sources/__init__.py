"""Market data from captures, recorded files and lines looked at without trading; and the recording of lines."""
