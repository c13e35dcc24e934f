"""How a picture is assembled: drawings whose shapes are put down one group after another, as visual procedures."""
