"""What is trained: a model and a site's own data, behind the Task of `voxelvault_fl.jobs.task`."""
