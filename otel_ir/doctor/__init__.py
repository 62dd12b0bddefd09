"""What is wrong here? Of the installation (``checks``), and of what agents send (``diagnose``): what is missing, which rules go blind."""
