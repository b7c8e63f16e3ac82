"""Who may do what: for now the owner may do everything."""
