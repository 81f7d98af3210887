package sysctl

import (
	"errors"
	"strconv"
	"strings"

	"github.com/plumb-cni/plumb/internal/rtnl"
	"golang.org/x/sys/unix"
)

// told returns a setting as the kernel tells of it by rtnetlink, if it does,
// which costs the same however many namespaces there are; to open one doesn't.
// Of a link it is what the connection knows.
func told(conn rtnl.Reader, name string) (value string, ok bool, err error) {
	switch name {
	case "ipv4/ip_forward", "ipv4/conf/all/forwarding":
		return forwards(conn, true)
	case "ipv6/conf/all/forwarding":
		return forwards(conn, false)
	}
	family, rest, _ := strings.Cut(name, "/conf/")
	i := strings.LastIndexByte(rest, '/') // names of links may not hold one
	if i < 0 || family != "ipv4" && family != "ipv6" || rest[:i] == "all" || rest[:i] == "default" {
		return "", false, nil
	}
	link, err := conn.Known(rest[:i])
	if errors.Is(err, rtnl.ErrNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	setting := link.Setting4
	if family == "ipv6" {
		setting = link.Setting6
	}
	number, ok := setting(rest[i+1:])
	return strconv.Itoa(number), ok, nil
}

func forwards(conn rtnl.Reader, is4 bool) (value string, ok bool, err error) {
	on, err := conn.Forwards(is4)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	if on {
		return "1", true, nil
	}
	return "0", true, nil
}
