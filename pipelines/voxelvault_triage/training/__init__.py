"""How the demonstration model was made, and how a site makes its own: data, training, evaluation."""
