package api

// NetRawLabel is the label of a namespace in which no container may send packets of its own making: with NetRawDrop all are without the
// capability NET_RAW. Of a tenant that is held to a Pod Security Standard it is set from the start.
const (
	NetRawLabel = "shoal/net-raw"
	NetRawDrop  = "drop"
)
