"""The spool: folders of files whose state `ls` shows, and the few steps that make an instance durable."""
