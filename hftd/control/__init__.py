"""What a person asks for: configuration, supervision, status. Cold code only."""
