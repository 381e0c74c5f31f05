"""Parts of the tagging benchmark: each module gives figures beside their bars."""
