"""Networks whose features the metrics are taken of; the weights of the small ones lie beside them."""
