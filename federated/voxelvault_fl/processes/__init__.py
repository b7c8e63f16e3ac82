"""Processes of the server and of a site: started, watched, restarted; none calls anywhere else."""
