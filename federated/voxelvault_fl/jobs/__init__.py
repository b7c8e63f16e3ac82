"""What is to be trained, who signed it, and whether a site lets it in."""
