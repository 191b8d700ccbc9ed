#!/bin/sh
# Makes what the compose file reads: a secret of the mesh for the gateways, a
# token for the components of app hello, one for operators. Needs the kar
# program; what is there already stays.
#   sh deploy/env.sh bin/kar [FOLDER]
set -eu
kar=${1:-bin/kar}
dir=${2:-$(dirname "$0")}
umask 077
if [ ! -e "$dir/mesh.env" ]; then
	echo "KAR_MESH_SECRET=$(head -c 32 /dev/urandom | base64 | tr -d '\n')" > "$dir/mesh.env"
fi
KAR_MESH_SECRET=$(sed -n 's/^KAR_MESH_SECRET=//p' "$dir/mesh.env")
export KAR_MESH_SECRET
echo "KAR_TOKEN=$("$kar" token --app hello)" > "$dir/hello.env"
echo "KAR_TOKEN=$("$kar" token --operator)" > "$dir/operator.env"
