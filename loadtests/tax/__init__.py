"""The durability tax: what a step and a run cost in two real regions, by the distance between them."""
