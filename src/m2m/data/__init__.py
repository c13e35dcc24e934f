"""Reading pictures, building image sets, and the tiny world that knows the truth about its pictures."""
