package api

// RootCAName names the ConfigMap that every namespace has with the CA that peers' certificates are signed by.
const RootCAName = "kube-root-ca.crt"
