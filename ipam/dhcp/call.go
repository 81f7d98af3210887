package dhcp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/ipam/dhcp/wire"
)

// startHint says how there comes to be a daemon.
const startHint = "start it with `systemctl start cni-dhcp.socket` or `/opt/cni/bin/dhcp daemon`"

// errUnreachable means that no daemon of ours listens at the socket.
var errUnreachable = errors.New("the DHCP daemon is not there")

func unreachable(err error) bool { return errors.Is(err, errUnreachable) }

// noDaemon is the error of a socket behind which there is no daemon of ours.
func noDaemon(socket string, err error) error {
	return cni.Errorf(cni.CodeUnavailable, "%w: socket %s: %w", errUnreachable, socket, err).WithDetails(startHint)
}

// call asks the daemon and waits for its answer. When the context ends first,
// closing the connection takes the request back.
func call(ctx context.Context, socket string, q wire.Request) (*wire.Answer, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, noDaemon(socket, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()

	line, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	_, err = conn.Write(append(line, '\n'))
	var answer []byte
	if err == nil {
		answer, err = bufio.NewReader(io.LimitReader(conn, wire.MaxLen)).ReadBytes('\n')
	}
	switch {
	case ctx.Err() != nil:
		return nil, cni.Errorf(cni.CodeTryAgain, "ask the DHCP daemon at %s: %w", socket, context.Cause(ctx))
	case strings.HasPrefix(string(answer), "HTTP/"):
		return nil, noDaemon(socket, errors.New("the reference's daemon still listens there; stop it first"))
	case err != nil:
		return nil, cni.Errorf(cni.CodeTryAgain, "the DHCP daemon at %s ended before it had an answer: %w", socket, err)
	}
	return decodeAnswer(answer)
}
