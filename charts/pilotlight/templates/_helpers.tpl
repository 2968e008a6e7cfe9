{{/* Base of all names: the release's name, and the chart's where that doesn't say it already. */}}
{{- define "pilotlight.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change, fit for selectors. Takes (dict "root" $ "component" "…"). */}}
{{- define "pilotlight.selectorLabels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* All labels. Takes (dict "root" $ "component" "…"). */}}
{{- define "pilotlight.labels" -}}
{{ include "pilotlight.selectorLabels" . }}
app.kubernetes.io/part-of: pilotlight
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* The same labels as a Prometheus or kubectl selector. Takes (dict "root" $ "component" "…"). */}}
{{- define "pilotlight.selector" -}}
app.kubernetes.io/name={{ .root.Chart.Name }},app.kubernetes.io/instance={{ .root.Release.Name }},app.kubernetes.io/component={{ .component }}
{{- end -}}

{{/*
An image's reference. Takes (dict "root" $ "image" .Values.….image). A repository whose first part is a registry (it has a dot or a
port, as in ghcr.io/me/operator) stands for itself; any other is below image.registry.
*/}}
{{- define "pilotlight.image" -}}
{{- $repository := .image.repository -}}
{{- if not (regexMatch "^([^/]*[.:][^/]*|localhost)/" $repository) -}}
{{- $repository = printf "%s/%s" .root.Values.image.registry $repository -}}
{{- end -}}
{{ $repository }}:{{ .image.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}

{{/* Name of the Secret with the control token. */}}
{{- define "pilotlight.controlSecret" -}}
{{ .Values.controlToken.existingSecret | default (printf "%s-control" (include "pilotlight.fullname" .)) }}
{{- end -}}

{{/* User name of a component's service account. Takes (dict "root" $ "component" "…"). */}}
{{- define "pilotlight.username" -}}
system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "pilotlight.fullname" .root }}-{{ .component }}
{{- end -}}

{{/* Security contexts to Pod Security `restricted`, and a root file system that nothing can write to. */}}
{{- define "pilotlight.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}
{{- define "pilotlight.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a component's pods run. Takes (dict "root" $ "component" "…" "values" .Values.…). */}}
{{- define "pilotlight.scheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .values.topologySpreadConstraints }}
  {{- toYaml .values.topologySpreadConstraints | nindent 2 }}
{{- else }}
{{- $labels := include "pilotlight.selectorLabels" . }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $labels | nindent 8 }}
{{- end }}
{{- end }}
{{- end -}}
