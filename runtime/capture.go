package runtime

import (
	"bytes"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A capture is a pipe whose other end a plugin writes to.
//
// os/exec would wait until every process that has the pipe has closed it, or
// give up and lose what has not been read. A process that a plugin leaves
// behind may have it open for ever, and any process that is just being started
// has for a moment. But what the plugin itself wrote is in the pipe when it
// ends, and can be read without waiting.
type capture struct {
	r, w *os.File
	to   io.Writer
	done chan struct{}
}

func newCapture(to io.Writer) (*capture, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &capture{r: r, w: w, to: to, done: make(chan struct{})}, nil
}

// begin reads until end. The plugin has been started and has its end.
func (c *capture) begin() {
	c.w.Close()
	go func() {
		defer close(c.done)
		_, _ = io.Copy(c.to, c.r)
	}()
}

// end reads the rest that is there. The plugin has ended.
func (c *capture) end() {
	_ = c.r.SetReadDeadline(time.Unix(1, 0)) // interrupts the copy
	<-c.done
	_ = c.r.SetReadDeadline(time.Time{})
	raw, err := c.r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	_ = raw.Read(func(fd uintptr) bool {
		// No pipe holds more than this: the rest is somebody else's, who may
		// never stop.
		for left := 1 << 20; left > 0; {
			n, err := syscall.Read(int(fd), buf)
			if err == syscall.EINTR {
				continue
			}
			if n <= 0 || err != nil { // EAGAIN, or the end
				break
			}
			_, _ = c.to.Write(buf[:n])
			left -= n
		}
		return true
	})
}

func (c *capture) close() {
	c.r.Close()
	c.w.Close()
}

// bounded keeps the first max bytes and accepts the rest.
type bounded struct {
	buf      bytes.Buffer
	max      int
	overflow bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.max-b.buf.Len())
	b.overflow = b.overflow || keep < len(p)
	b.buf.Write(p[:keep])
	return len(p), nil
}

// tail keeps the last max bytes.
type tail struct {
	buf []byte
	max int
	cut bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - t.max; over > 0 {
		t.cut = true
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

// String returns whole lines, where there is more than one.
func (t *tail) String() string {
	b := t.buf
	if i := bytes.IndexByte(b, '\n'); t.cut && i >= 0 && i < len(b)-1 {
		b = b[i+1:]
	}
	return strings.ToValidUTF8(strings.TrimSpace(string(b)), "�")
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

// Write never fails: a log that is full must not block a plugin.
func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, _ = l.w.Write(p)
	return len(p), nil
}
