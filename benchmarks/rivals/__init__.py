"""What users would pick instead: programs that print a line of JSON and take nothing of plainfilm's but a network."""
