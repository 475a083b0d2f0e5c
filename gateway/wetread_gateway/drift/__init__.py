"""Whether what the releases say of a site's and a scanner's films still looks like what they said at their making."""
