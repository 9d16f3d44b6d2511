package swarm

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

// api is a dockerd's, through its socket.
type api struct{ http *http.Client }

func newAPI(sock string) api {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}
	return api{&http.Client{Transport: &http.Transport{DialContext: dial}}}
}

type object = map[string]any

// call makes a request with in as its JSON body, or as its body if it is a reader, and decodes the answer into out, or copies it if it is a
// writer.
func (a api) call(ctx context.Context, method, path string, in, out any) error {
	body, kind := io.Reader(http.NoBody), ""
	switch in := in.(type) {
	case nil:
	case io.Reader:
		body, kind = in, "application/x-tar"
	default:
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body, kind = bytes.NewReader(b), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	switch out := out.(type) {
	case nil:
		_, err = io.Copy(io.Discard, resp.Body)
	case io.Writer:
		_, err = io.Copy(out, resp.Body)
	default:
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	return err
}

// form makes one swarm of the machines, all managers.
func (s *Swarm) form(ctx context.Context) error {
	first := s.Machines[0]
	if err := first.call(ctx, "POST", "/swarm/init", object{"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": first.Addr, "Spec": object{}}, nil); err != nil {
		return err
	}
	var about struct{ JoinTokens struct{ Manager string } }
	if err := first.call(ctx, "GET", "/swarm", nil, &about); err != nil {
		return err
	}
	for _, m := range s.Machines[1:] {
		err := m.call(ctx, "POST", "/swarm/join", object{
			"ListenAddr": "0.0.0.0:2377", "AdvertiseAddr": m.Addr, "RemoteAddrs": []string{first.Addr + ":2377"}, "JoinToken": about.JoinTokens.Manager,
		}, nil)
		if err != nil {
			return err
		}
	}
	if err := s.Whole(ctx); err != nil {
		return err
	}
	return first.call(ctx, "POST", "/networks/create", object{"Name": network, "Driver": "overlay", "Attachable": true, "CheckDuplicate": true}, nil)
}

// node is a machine as a manager sees it.
type node struct {
	ID            string
	Description   struct{ Hostname string }
	Status        struct{ State string }
	ManagerStatus struct {
		Leader       bool
		Reachability string
	}
}

func (s *Swarm) nodes(ctx context.Context, at *Machine) ([]node, error) {
	var all []node
	return all, at.call(ctx, "GET", "/nodes", nil, &all)
}

// Whole returns when every manager says that all are there and one leads.
func (s *Swarm) Whole(ctx context.Context) error {
	return until(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		for _, m := range s.Machines {
			all, err := s.nodes(ctx, m)
			if err != nil {
				return err
			}
			good := 0
			for _, n := range all {
				if n.Status.State == "ready" && n.ManagerStatus.Reachability == "reachable" {
					good++
				}
			}
			if good != len(s.Machines) {
				return fmt.Errorf("%s sees %d of %d machines", m.Name, good, len(s.Machines))
			}
		}
		return nil
	})
}

// Leader returns the machine that leads, and the others.
func (s *Swarm) Leader(ctx context.Context) (leader *Machine, others []*Machine, err error) {
	err = until(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		all, err := s.nodes(ctx, s.Machines[0])
		if err != nil {
			return err
		}
		leader, others = nil, nil
		for _, n := range all {
			for _, m := range s.Machines {
				switch {
				case m.Name != n.Description.Hostname:
				case n.ManagerStatus.Leader:
					leader = m
				default:
					others = append(others, m)
				}
			}
		}
		if leader == nil {
			return errors.New("nobody leads")
		}
		return nil
	})
	return leader, others, err
}

// Load gives every machine an image, from the file that docker save would write.
func (s *Swarm) Load(ctx context.Context, file string) error {
	for _, m := range s.Machines {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = m.call(ctx, "POST", "/images/load", f, nil)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// network is an overlay on which containers find each other by name.
const network = "shared"

// Networks for containers of one machine.
const (
	Shared = network  // the services'
	Own    = "bridge" // Docker's own
)

// Serve runs a service of some replicas, which others find under its name. The image must be on every machine: it is named by what it is, because Swarm
// asks a registry before it starts what has only a name, and here that takes a minute to find none.
func (s *Swarm) Serve(ctx context.Context, name, image string, replicas int, args ...string) error {
	var is struct {
		ID string `json:"Id"`
	}
	if err := s.Machines[0].call(ctx, "GET", "/images/"+image+"/json", nil, &is); err != nil {
		return err
	}
	return s.Machines[0].call(ctx, "POST", "/services/create", object{
		"Name": name,
		"TaskTemplate": object{
			"ContainerSpec": object{"Image": is.ID, "Args": args}, "Networks": []object{{"Target": network}},
		},
		"Mode":         object{"Replicated": object{"Replicas": replicas}},
		"EndpointSpec": object{"Mode": "dnsrr"}, // its virtual addresses need IPVS, which not every kernel has
	}, nil)
}

// Remove ends a service, and returns when its last replica has ended.
func (s *Swarm) Remove(ctx context.Context, name string) error {
	at := s.Machines[0]
	if err := at.call(ctx, "DELETE", "/services/"+name, nil, nil); err != nil {
		return err
	}
	return s.AwaitNone(ctx, name)
}

// Running returns how many replicas of a service run, not counting those on a machine.
func (s *Swarm) Running(ctx context.Context, at *Machine, service string, but *Machine) (int, error) {
	var tasks []struct {
		NodeID, DesiredState string
		Status               struct{ State string }
	}
	filter := url.QueryEscape(fmt.Sprintf(`{"service":[%q]}`, service))
	if err := at.call(ctx, "GET", "/tasks?filters="+filter, nil, &tasks); err != nil {
		return 0, err
	}
	all, err := s.nodes(ctx, at)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, t := range tasks {
		for _, one := range all {
			if t.NodeID == one.ID && t.Status.State == "running" && t.DesiredState == "running" && (but == nil || one.Description.Hostname != but.Name) {
				n++
			}
		}
	}
	return n, nil
}

// AwaitRunning returns when so many run.
func (s *Swarm) AwaitRunning(ctx context.Context, at *Machine, service string, replicas int, but *Machine) error {
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		n, err := s.Running(ctx, at, service, but)
		if err == nil && n < replicas {
			err = fmt.Errorf("%d of %d replicas of %s run", n, replicas, service)
		}
		return err
	})
}

// Write makes a small object.
func (m *Machine) Write(ctx context.Context, name string) error {
	return m.call(ctx, "POST", "/configs/create", object{"Name": name, "Data": []byte("x")}, nil)
}

// Run starts a container on this machine alone. Wait returns what it said when it has ended.
func (m *Machine) Run(ctx context.Context, network, image string, args ...string) (wait func(context.Context) (string, error), err error) {
	var c struct {
		ID string `json:"Id"`
	}
	err = m.call(ctx, "POST", "/containers/create", object{"Image": image, "Cmd": args, "HostConfig": object{"NetworkMode": network}}, &c)
	if err != nil {
		return nil, err
	}
	if err := m.call(ctx, "POST", "/containers/"+c.ID+"/start", nil, nil); err != nil {
		return nil, err
	}
	return func(ctx context.Context) (string, error) {
		if err := m.call(ctx, "POST", "/containers/"+c.ID+"/wait", nil, nil); err != nil {
			return "", err
		}
		var said bytes.Buffer
		if err := m.call(ctx, "GET", "/containers/"+c.ID+"/logs?stdout=1", nil, &said); err != nil {
			return "", err
		}
		return unframe(said.Bytes()), m.call(ctx, "DELETE", "/containers/"+c.ID+"?force=1", nil, nil)
	}, nil
}

// unframe takes out the headers of eight bytes, a stream and a length, between which the log of a container comes.
func unframe(b []byte) string {
	var text []byte
	for len(b) >= 8 {
		n := min(int(binary.BigEndian.Uint32(b[4:8])), len(b)-8)
		text, b = append(text, b[8:8+n]...), b[8+n:]
	}
	return string(text)
}

// change writes another spec of a service.
func (s *Swarm) change(ctx context.Context, name string, edit func(spec object)) error {
	at := s.Machines[0]
	var is struct {
		Version struct{ Index uint64 }
		Spec    object
	}
	if err := at.call(ctx, "GET", "/services/"+name, nil, &is); err != nil {
		return err
	}
	edit(is.Spec)
	return at.call(ctx, "POST", fmt.Sprintf("/services/%s/update?version=%d", name, is.Version.Index), is.Spec, nil)
}

// Scale asks for another number of replicas.
func (s *Swarm) Scale(ctx context.Context, name string, replicas int) error {
	return s.change(ctx, name, func(spec object) { spec["Mode"] = object{"Replicated": object{"Replicas": replicas}} })
}

// Roll has all replicas replaced, so many at a time, the new one first; round must grow from one to the next.
func (s *Swarm) Roll(ctx context.Context, name string, round, parallel int) error {
	return s.change(ctx, name, func(spec object) {
		spec["UpdateConfig"] = object{"Parallelism": parallel, "Order": "start-first"}
		if template, ok := spec["TaskTemplate"].(object); ok {
			template["ForceUpdate"] = round
		}
	})
}

// AwaitRound returns when so many replicas of a round run, and no container of another is left on any machine.
func (s *Swarm) AwaitRound(ctx context.Context, name string, round, replicas int) error {
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		var tasks []struct {
			DesiredState string
			Spec         struct{ ForceUpdate int }
			Status       struct{ State string }
		}
		filter := url.QueryEscape(fmt.Sprintf(`{"service":[%q]}`, name))
		if err := s.Machines[0].call(ctx, "GET", "/tasks?filters="+filter, nil, &tasks); err != nil {
			return err
		}
		now, other := 0, 0
		for _, t := range tasks {
			switch running := t.Status.State == "running"; {
			case running && t.Spec.ForceUpdate == round && t.DesiredState == "running":
				now++
			case running:
				other++
			}
		}
		if now != replicas || other > 0 {
			return fmt.Errorf("%d of %d replicas of %s are new, %d old ones run", now, replicas, name, other)
		}
		return nil
	})
}

// AwaitNone returns when no container of a service is left on any machine.
func (s *Swarm) AwaitNone(ctx context.Context, name string) error {
	return until(ctx, 50*time.Millisecond, func(ctx context.Context) error {
		for _, m := range s.Machines {
			var left []struct{ ID string }
			filter := url.QueryEscape(fmt.Sprintf(`{"label":["com.docker.swarm.service.name=%s"]}`, name))
			if err := m.call(ctx, "GET", "/containers/json?filters="+filter, nil, &left); err != nil {
				return err
			}
			if len(left) > 0 {
				return fmt.Errorf("%d replicas of %s run on %s", len(left), name, m.Name)
			}
		}
		return nil
	})
}
