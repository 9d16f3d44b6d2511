{{- define "shop.labels" -}}
app.kubernetes.io/name: shop
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "shop.once" -}}
restartPolicy: Never
terminationGracePeriodSeconds: 0
containers:
- name: main
  image: shoal.local/busybox:1
{{- end }}
