"""The diffusion mathematics of the paper: equations 5 and 6, and reproducible noise."""
