// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";

import {ICouncil} from "./interfaces/ICouncil.sol";

/// @title Domain
/// @notice Who signed something for this ledger, without asking the Council each time.
abstract contract Domain {
    ICouncil public immutable council;
    bytes32 private immutable _separator;
    uint256 private immutable _chainId;

    /// @param separator What the Council answers to domainSeparator: it is passed in, because the anchor is made while the
    /// Council is, and nobody can be asked before they stand.
    constructor(ICouncil council_, bytes32 separator) {
        council = council_;
        _separator = separator;
        _chainId = block.chainid;
    }

    /// @dev Zero, which holds no seat, for what is no signature. Any other recovers to somebody: what the signer may do is
    /// the caller's to ask. That s is in the lower half is not asked: nothing here is known by its signature.
    /// @param vs s, with v in its highest bit (EIP-2098).
    function _signer(bytes32 structHash, bytes32 r, bytes32 vs) internal view returns (address) {
        // After a fork of the chain the same signature must not count on both sides.
        bytes32 separator = block.chainid == _chainId ? _separator : council.domainSeparator();
        bytes32 digest = MessageHashUtils.toTypedDataHash(separator, structHash);
        unchecked {
            return ecrecover(digest, uint8(27 + (uint256(vs) >> 255)), r, (vs << 1) >> 1);
        }
    }
}
