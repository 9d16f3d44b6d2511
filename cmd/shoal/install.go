package main

import (
	"fmt"
	"os"
	"path/filepath"
)

type installCmd struct {
	Config string `default:"/etc/shoal/config.toml" help:"Configuration the unit starts the peer with."`
	Unit   string `default:"/etc/systemd/system/shoal.service" help:"Where to write the unit."`
}

// unit starts the peer. A restart must not touch the keeper and the containers: only the peer's own process is ended
// (KillMode), and the cgroups below the unit's are Shoal's (Delegate).
const unit = `[Unit]
Description=Shoal peer
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=%s up --config %s
KillMode=process
Delegate=yes
Restart=always
RestartSec=1
LimitNOFILE=1048576
TasksMax=infinity

[Install]
WantedBy=multi-user.target
`

func (c installCmd) Run(std streams) error {
	if err := checkMachine(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if _, err := os.Stat(c.Config); os.IsNotExist(err) {
		if err := os.MkdirAll(filepath.Dir(c.Config), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(c.Config, []byte("# Every key is optional: see config.toml.example.\n"), 0o600); err != nil {
			return err
		}
		fmt.Fprintln(std.out, "wrote", c.Config)
	}
	if err := os.MkdirAll(filepath.Dir(c.Unit), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(c.Unit, fmt.Appendf(nil, unit, self, c.Config), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(std.out, "wrote %s\nStart the peer, now and at every boot: systemctl daemon-reload && systemctl enable --now shoal\n", c.Unit)
	return err
}
