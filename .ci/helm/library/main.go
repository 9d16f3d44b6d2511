// Command helm-library drives Helm as a Go library, as programs do that bring charts to a cluster without its command line:
//
//	helm-library install|upgrade RELEASE CHART [KEY=VALUE]...
//	helm-library rollback RELEASE REVISION
//	helm-library history|uninstall RELEASE
//
// It takes the cluster from the kubeconfig, waits for what it did, and prints the revisions it is asked for or has made.
package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart"
	"helm.sh/helm/v4/pkg/chart/loader"
	"helm.sh/helm/v4/pkg/cli"
	"helm.sh/helm/v4/pkg/kube"
	"helm.sh/helm/v4/pkg/release"
	"helm.sh/helm/v4/pkg/strvals"
)

const (
	patience = time.Minute
	wait     = kube.StatusWatcherStrategy
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: helm-library VERB RELEASE [ARGUMENT]...")
	}
	env := cli.New()
	cfg := action.NewConfiguration()
	if err := cfg.Init(env.RESTClientGetter(), env.Namespace(), "secret"); err != nil {
		return err
	}
	verb, name, rest := args[0], args[1], args[2:]
	switch {
	case verb == "install" && len(rest) > 0:
		return install(cfg, env.Namespace(), name, rest[0], rest[1:])
	case verb == "upgrade" && len(rest) > 0:
		return upgrade(cfg, env.Namespace(), name, rest[0], rest[1:])
	case verb == "rollback" && len(rest) == 1:
		return rollback(cfg, name, rest[0])
	case verb == "history" && len(rest) == 0:
		return history(cfg, name)
	case verb == "uninstall" && len(rest) == 0:
		return uninstall(cfg, name)
	}
	return fmt.Errorf("%s of %d arguments is not known", verb, len(rest))
}

// load reads a chart and what is set of its values.
func load(path string, sets []string) (chart.Charter, map[string]any, error) {
	c, err := loader.Load(path)
	if err != nil {
		return nil, nil, err
	}
	values, err := strvals.Parse(strings.Join(sets, ","))
	return c, values, err
}

func install(cfg *action.Configuration, namespace, name, path string, sets []string) error {
	c, values, err := load(path, sets)
	if err != nil {
		return err
	}
	do := action.NewInstall(cfg)
	do.ReleaseName, do.Namespace, do.Timeout, do.WaitStrategy = name, namespace, patience, wait
	made, err := do.Run(c, values)
	return show(made, err)
}

func upgrade(cfg *action.Configuration, namespace, name, path string, sets []string) error {
	c, values, err := load(path, sets)
	if err != nil {
		return err
	}
	do := action.NewUpgrade(cfg)
	do.Namespace, do.Timeout, do.WaitStrategy = namespace, patience, wait
	made, err := do.Run(name, c, values)
	return show(made, err)
}

func rollback(cfg *action.Configuration, name, revision string) error {
	n, err := strconv.Atoi(revision)
	if err != nil {
		return err
	}
	do := action.NewRollback(cfg)
	do.Version, do.Timeout, do.WaitStrategy = n, patience, wait
	if err := do.Run(name); err != nil {
		return err
	}
	last, err := cfg.Releases.Last(name)
	return show(last, err)
}

func history(cfg *action.Configuration, name string) error {
	all, err := action.NewHistory(cfg).Run(name)
	for _, r := range all {
		err = errors.Join(err, show(r, nil))
	}
	return err
}

func uninstall(cfg *action.Configuration, name string) error {
	do := action.NewUninstall(cfg)
	do.Timeout, do.WaitStrategy = patience, wait
	done, err := do.Run(name)
	if err != nil {
		return err
	}
	return show(done.Release, nil)
}

func show(r release.Releaser, err error) error {
	if err != nil {
		return err
	}
	a, err := release.NewAccessor(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(os.Stdout, "%s %d %s\n", a.Name(), a.Version(), a.Status())
	return err
}
