"""Files and folders, whatever they hold: copied, compared, linked, locked, and edits that can be taken back."""
