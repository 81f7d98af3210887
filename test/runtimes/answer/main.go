// Command answer is what runs in the containers of the tests: a server on port 80, TCP and UDP, both families, that says to
// everyone what host.Answer holds. Server is the container's host name.
//
// It ends after a quarter of an hour, so that a container whose test was killed does not stay.
package main

import (
	"encoding/json"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	name, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", ":80")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			c.Write(answer(name, c.RemoteAddr(), c.LocalAddr())) //nolint:errcheck // the client notices
			c.Close()
		}
	}()
	go func() {
		buf := make([]byte, 2048)
		for {
			_, from, err := packets.ReadFrom(buf)
			if err != nil {
				continue // an ICMP error about an earlier answer
			}
			packets.WriteTo(answer(name, from, packets.LocalAddr()), from) //nolint:errcheck // the client notices
		}
	}()

	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT) // the first process of a container has to ask for them
	select {
	case <-ended:
	case <-time.After(15 * time.Minute):
	}
}

func answer(server string, client, local net.Addr) []byte {
	data, err := json.Marshal(struct{ Server, Client, Local string }{server, client.String(), local.String()})
	if err != nil {
		log.Fatal(err)
	}
	return append(data, '\n')
}
