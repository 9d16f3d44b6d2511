package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// account is where a pod finds the token of its service account, and the CA.
const account = "/var/run/secrets/kubernetes.io/serviceaccount"

// askAPI asks the cluster's API with what a pod is given. {namespace} in the path is the pod's.
func askAPI(path string) (string, error) {
	var files [3]string
	for i, name := range []string{"token", "ca.crt", "namespace"} {
		b, err := os.ReadFile(filepath.Join(account, name))
		if err != nil {
			return "", err
		}
		files[i] = string(b)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(files[1]))
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	req, err := http.NewRequest(http.MethodGet, "https://"+host+strings.ReplaceAll(path, "{namespace}", files[2]), http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+files[0])
	return do(&http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, req)
}
