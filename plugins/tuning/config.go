package tuning

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"os"
	"regexp"
	"strings"

	"github.com/plumb-cni/plumb/cni"
	"github.com/plumb-cni/plumb/plugin"
	"github.com/plumb-cni/plumb/state/link"
	"github.com/plumb-cni/plumb/state/sysctl"
)

// A Config holds the keys of a tuning configuration.
type Config struct {
	SysCtl   settings `json:"sysctl" schema:"names=setting"`
	MAC      string   `json:"mac" schema:"is=hardware"`
	MTU      int      `json:"mtu" schema:"min=0 max=4294967295"` // bytes; 0 is left as it is
	Promisc  bool     `json:"promisc"`                           // false is left as it is
	AllMulti *bool    `json:"allmulti"`
	TxQLen   *int     `json:"txQLen" schema:"min=0 max=4294967295"` // packets

	// DataDir is where the reference keeps what it has changed, for DEL of
	// its attachments; empty means /run/cni/tuning.
	DataDir string `json:"dataDir"`

	// Args come before the keys above, and before RuntimeConfig.
	Args struct {
		CNI struct {
			SysCtl   settings `json:"sysctl" schema:"names=setting"`
			MAC      *string  `json:"mac" schema:"is=hardware"`
			MTU      *int     `json:"mtu" schema:"min=0 max=4294967295"`
			Promisc  *bool    `json:"promisc"`
			AllMulti *bool    `json:"allmulti"`
			TxQLen   *int     `json:"txQLen" schema:"min=0 max=4294967295"`
		} `json:"cni"`
	} `json:"args"`
	RuntimeConfig struct {
		MAC string `json:"mac" schema:"is=hardware"` // comes before MAC of CNI_ARGS, which comes before the configuration's
	} `json:"runtimeConfig"`
}

const defaultDataDir = "/run/cni/tuning"

// settings are in the order of the configuration.
type settings []setting

type setting struct{ key, value string }

// Shape implements plugin.Shaped.
func (settings) Shape() any { return map[string]string{} }

// UnmarshalJSON decodes an object, none of whose keys may stand there twice.
func (s *settings) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return errors.New("sysctl is not an object")
	}
	*s = settings{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		x := setting{key: fmt.Sprint(key)}
		var value any
		if err := d.Decode(&value); err != nil {
			return err
		}
		var ok bool
		if x.value, ok = value.(string); !ok {
			return fmt.Errorf(`sysctl %s: its value has to be a string, such as "1", not %v`, x.key, value)
		}
		for _, other := range *s {
			if other.key == x.key {
				return fmt.Errorf("sysctl %s stands there twice", x.key)
			}
		}
		*s = append(*s, x)
	}
	return nil
}

// sysctls returns the settings that are asked for, those of args last and in the
// place of others.
func (c *Config) sysctls() settings {
	all := append(settings{}, c.SysCtl...)
next:
	for _, x := range c.Args.CNI.SysCtl {
		for i := range all {
			if all[i].key == x.key {
				all[i].value = x.value
				continue next
			}
		}
		all = append(all, x)
	}
	return all
}

// ifNameWord stands for the interface's name in the keys of settings.
const ifNameWord = "IFNAME"

// path returns a key's name below /proc/sys. As sysctl(8) has it, the first dot or
// slash says which of the two separates; the other one is then part of a name,
// with a slash for a dot: net.ipv4.conf.eth0/100.forwarding.
func path(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// name returns a setting's name below /proc/sys/net.
func name(key, ifName string) (string, error) {
	parts := strings.Split(path(key), "/")
	if len(parts) < 2 || parts[0] != "net" {
		return "", cni.Errorf(cni.CodeInvalidConfig, "sysctl %s is not of the network: its name has to begin with net", key)
	}
	for _, part := range parts {
		if part == "" || part == "." || part == ".." || strings.Contains(part, "\x00") {
			return "", cni.Errorf(cni.CodeInvalidConfig, "sysctl %s is not the name of a setting", key)
		}
	}
	return strings.Replace(strings.Join(parts[1:], "/"), ifNameWord, ifName, 1), nil
}

// values returns the settings for an interface.
func (c *Config) values(ifName string) ([]sysctl.Setting, error) {
	var values []sysctl.Setting
	for _, x := range c.sysctls() {
		n, err := name(x.key, ifName)
		if err != nil {
			return nil, err
		}
		for _, other := range values {
			if other.Name == n {
				return nil, cni.Errorf(cni.CodeInvalidConfig, "sysctl %s stands there twice, by different names", x.key)
			}
		}
		values = append(values, sysctl.Setting{Name: n, Value: x.value})
	}
	return values, nil
}

// allowlist is the node's list of what configurations may set: a regular
// expression a line. Where there is none, everything is allowed.
const allowlist = "/etc/cni/tuning/allowlist.conf"

// allowed refuses a setting that the node's list doesn't have.
func (c *Config) allowed() error {
	if len(c.sysctls()) == 0 {
		return nil
	}
	data, err := os.ReadFile(allowlist)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cni.Errorf(cni.CodeIO, "list of allowed sysctls: %w", err)
	}
	var patterns []*regexp.Regexp
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		p, err := regexp.Compile(line)
		if err != nil {
			return cni.Errorf(cni.CodeInvalidConfig, "%s: %w", allowlist, err)
		}
		patterns = append(patterns, p)
	}
	for _, x := range c.sysctls() {
		if !matches(patterns, dotted(x.key)) {
			return cni.Errorf(cni.CodeInvalidConfig, "sysctl %s is not allowed on this node; %s lists what is", x.key, allowlist)
		}
	}
	return nil
}

// dotted writes a key with dots, as the patterns of the list are, whichever way
// it came.
func dotted(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '.' {
		return key
	}
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}

func matches(patterns []*regexp.Regexp, s string) bool {
	for _, p := range patterns {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}

// attributes returns those of the interface that are asked for.
func (c *Config) attributes(r *plugin.Request) (link.Attributes, error) {
	a := link.Attributes{MTU: c.MTU, AllMulti: c.AllMulti, TxQLen: c.TxQLen}
	promisc, args := c.Promisc, c.Args.CNI
	if args.MTU != nil {
		a.MTU = *args.MTU
	}
	if args.Promisc != nil {
		promisc = *args.Promisc
	}
	if args.AllMulti != nil {
		a.AllMulti = args.AllMulti
	}
	if args.TxQLen != nil {
		a.TxQLen = args.TxQLen
	}
	if promisc {
		a.Promisc = &promisc
	}
	if a.MTU < 0 {
		return a, cni.Errorf(cni.CodeInvalidConfig, "mtu %d is negative", a.MTU)
	}
	if a.TxQLen != nil && *a.TxQLen < 0 {
		return a, cni.Errorf(cni.CodeInvalidConfig, "txQLen %d is negative", *a.TxQLen)
	}
	for _, x := range []struct {
		key   string
		value *int
	}{{"mtu", &a.MTU}, {"txQLen", a.TxQLen}} {
		if x.value != nil && int64(*x.value) > math.MaxUint32 { // which would become another number in the kernel's message
			return a, cni.Errorf(cni.CodeInvalidConfig, "%s %d is more than %d, the highest that there is", x.key, *x.value, uint32(math.MaxUint32))
		}
	}
	var err error
	a.MAC, err = c.mac(r)
	return a, err
}

// mac returns the hardware address that is asked for, nil for none.
func (c *Config) mac(r *plugin.Request) (net.HardwareAddr, error) {
	key, value, code := "mac", c.MAC, cni.CodeInvalidConfig
	if fromArgs, ok := r.Args.Get("MAC"); ok && fromArgs != "" {
		key, value, code = "MAC of CNI_ARGS", fromArgs, cni.CodeInvalidEnvironment
	}
	if c.RuntimeConfig.MAC != "" {
		key, value, code = "runtimeConfig.mac", c.RuntimeConfig.MAC, cni.CodeInvalidConfig
	}
	if args := c.Args.CNI.MAC; args != nil {
		key, value, code = "args.cni.mac", *args, cni.CodeInvalidConfig
	}
	if value == "" {
		return nil, nil
	}
	mac, err := net.ParseMAC(value)
	if err != nil {
		return nil, cni.Errorf(code, `%s: %q is not a hardware address, which looks like "c2:11:22:33:44:55"`, key, value)
	}
	if mac[0]&1 != 0 {
		return nil, cni.Errorf(code, "%s: %s is a group's address, which no interface can have; its first byte has to be even", key, mac)
	}
	return mac, nil
}

func validate(c *Config, r *plugin.Request) error {
	if err := r.Args.Check(); err != nil {
		return err
	}
	if _, err := c.values(r.IfName); err != nil {
		return err
	}
	if _, err := c.attributes(r); err != nil {
		return err
	}
	return c.allowed()
}
