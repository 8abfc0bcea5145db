"""`report`: what is gathered of NWB files and their media, and the page that shows it."""
