package nftconn

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/plumb-cni/plumb/test/host"
)

// remember returns connections that share a memory.
func remember(t testing.TB, n int) []*Conn {
	memory, conns := new(Memory), make([]*Conn, n)
	for i := range conns {
		conns[i] = dial(t)
		conns[i].Remember(memory)
	}
	return conns
}

// structure asks for all that is remembered.
func structure() []Query {
	return []Query{
		&TableQuery{Table: own}, &TableQuery{Table: Table{IPv4, "other"}}, &ChainQuery{Table: own, Name: "base"}, &RulesQuery{Table: own},
		&RulesQuery{Table: own, Chain: "base"}, &MapsQuery{Table: own}, &BaseChainsQuery{Family: Inet, Point: Postrouting},
	}
}

// TestMemory spares what has been read, by whichever connection, as long as only elements change.
func TestMemory(t *testing.T) {
	conns, stranger := remember(t, 2), dial(t)
	commit(t, conns[0], schema())
	trips := func(c *Conn) int {
		t.Helper()
		before := c.RoundTrips()
		got, want := structure(), structure()
		gen := read(t, c, got...)
		n := c.RoundTrips() - before
		if real := read(t, stranger, want...); real != gen || !reflect.DeepEqual(got, want) {
			t.Fatalf("in generation %d of %d:\n%v\nwant\n%v", gen, real, show(got), show(want))
		}
		return n
	}
	spared := func(c *Conn, why string) {
		t.Helper()
		if n := trips(c); n != 1 {
			t.Errorf("%d round trips %s", n, why)
		}
	}
	anew := func(why string) {
		t.Helper()
		if n := trips(conns[0]); n == 1 {
			t.Errorf("nothing was read %s", why)
		}
		trips(conns[0]) // which tells that nothing has come in between
		spared(conns[0], "after it was read "+why)
	}
	anew("at first")
	spared(conns[1], "by another connection")

	var tx Tx
	tx.AddElements(sources, Element{Key: []byte{10, 1, 2, 4}})
	commit(t, conns[1], &tx)
	spared(conns[0], "after an element was added")
	tx = Tx{}
	tx.Guard(read(t, conns[0]))
	tx.DeleteElements(sources, []byte{10, 1, 2, 4})
	commit(t, conns[0], &tx)
	spared(conns[1], "after an element was deleted")

	// What is there already changes nothing, not even the generation.
	tx = Tx{}
	tx.AddTable(own)
	tx.AddMap(sources)
	commit(t, conns[0], &tx)
	spared(conns[0], "after nothing was changed")
	host.Run(t, "nft", "add", "table", "ip", "other")
	anew("after somebody has made a table")

	for _, change := range []struct {
		what string
		do   func(*Tx)
	}{
		{"a rule was added", func(tx *Tx) { tx.AppendRule(Rule{Table: own, Chain: "base", Exprs: []Expr{Verdict{Code: Return}}}) }},
		{"a map was added", func(tx *Tx) { tx.AddMap(Map{Table: own, Name: "another", Key: []Type{IPv4Addr}}) }},
		{"a chain was added", func(tx *Tx) { tx.AddChain(Chain{Table: own, Name: "another"}) }},
		{"a table was deleted", func(tx *Tx) { tx.DeleteTable(Table{IPv4, "other"}) }},
	} {
		tx = Tx{}
		change.do(&tx)
		commit(t, conns[1], &tx)
		anew("after " + change.what)
	}
	host.Run(t, "nft", "flush", "ruleset")
	anew("after somebody has flushed the ruleset")
}

func show(queries []Query) (s string) {
	for _, q := range queries {
		s += fmt.Sprintf("%T %+v\n", q, q)
	}
	return s
}

// TestMemoryRaces never answers with what was, whoever changes the ruleset meanwhile.
func TestMemoryRaces(t *testing.T) {
	const workers = 4
	conns, strangers := remember(t, workers), make([]*Conn, workers+1)
	for i := range strangers {
		strangers[i] = dial(t)
	}
	commit(t, strangers[0], schema())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	change := func(c *Conn, worker int) error {
		var tx Tx
		switch key := []byte{10, 2, byte(worker), byte(rand.N(4))}; rand.N(40) {
		case 0:
			tx.AppendRule(Rule{Table: own, Chain: "base", Exprs: []Expr{Verdict{Code: Return}}})
		case 1:
			tx.AddTable(own)
			tx.AddMap(Map{Table: own, Name: fmt.Sprint("map", rand.N(20)), Key: []Type{IPv4Addr}})
		case 2:
			tx.SetChain(base)
		case 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16:
			tx.DeleteElements(sources, key)
		default:
			tx.AddElements(sources, Element{Key: key})
		}
		err := c.Commit(ctx, &tx)
		if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var group sync.WaitGroup
	var mu sync.Mutex
	var compared int
	for i, c := range conns {
		group.Go(func() {
			for ctx.Err() == nil {
				got, want := structure(), structure()
				before := c.RoundTrips()
				gen, err := c.Read(ctx, got...)
				trips := c.RoundTrips() - before
				real, err2 := strangers[i].Read(ctx, want...)
				still, err3 := strangers[i].Read(ctx)
				if err := errors.Join(err, err2, err3, change(c, i)); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if ctx.Err() != nil || trips > 1 || gen != real || gen != still {
					continue
				}
				mu.Lock()
				compared++
				mu.Unlock()
				if !reflect.DeepEqual(got, want) {
					t.Errorf("in generation %d:\n%v\nwant\n%v", gen, show(got), show(want))
					return
				}
			}
		})
	}
	group.Go(func() {
		for ctx.Err() == nil {
			if err := change(strangers[workers], workers); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(rand.N(20 * time.Millisecond))
		}
	})
	group.Wait()
	if compared == 0 {
		t.Error("nothing was answered from memory")
	}
	t.Logf("%d answers from memory were compared", compared)
}
