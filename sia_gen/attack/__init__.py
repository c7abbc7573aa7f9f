"""The attack: `edit` is the equation, `balls` the sets it moves in, `sia` the ascent."""
